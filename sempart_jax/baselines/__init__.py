"""Other systems for unsupervised segmentation, as functions of backbone features."""
