"""From statistics to decisions: the fingerprint of a data set, and a plan with a reason for each choice.

``fingerprint.py`` aggregates; ``planner.py`` decides, with one module a choice (``dims``, ``orientation``,
``cropping``, ``shape``, ``intensity``, ``augmentation``, ``batch``; ``budget`` estimates cost); ``plan.py`` is
the document. Nothing here needs torch.
"""
