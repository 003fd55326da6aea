"""Label-free saliency of one image by colour and place: no network, no training."""
