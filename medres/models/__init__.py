"""Backbones, pretrained weights and the classification head.

``factory.create_model`` is the door: timm's ResNets in 2D, MONAI's in 3D, with weights loaded strictly or not at all.
"""
