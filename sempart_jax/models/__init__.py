"""The networks: frozen backbones, the segmentation head, and weights brought in from outside."""
