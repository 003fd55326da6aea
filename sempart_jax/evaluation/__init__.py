"""Scoring masks on labelled data sets: protocols, sources of masks, and what comes out."""
