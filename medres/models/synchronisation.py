"""Batch normalisation over all processes that train together."""

from __future__ import annotations

from timm.layers import convert_sync_batchnorm

from medres.models.classifier import ClassificationModel


def synchronised(model: ClassificationModel) -> ClassificationModel:
    """Let batch normalisation count over the shares of all processes; tensors and their names stay.

    timm's own conversion is used: layers that normalise and activate at once would lose their activation in PyTorch's.

    Args:
        model: Changed in place, on a GPU, and returned.

    Example:
        >>> from medres.models.factory import create_model
        >>> model = create_model("test_resnet", spatial_dims=2, num_classes=2, weights="none")
        >>> names = list(model.state_dict())
        >>> list(synchronised(model).state_dict()) == names
        True
    """
    converted: ClassificationModel = convert_sync_batchnorm(model)
    return converted
