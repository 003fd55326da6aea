"""Self-supervised pretraining of a backbone by DINO (arXiv 2104.14294)."""
