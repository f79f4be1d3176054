"""Scans: where they lie and whose they are (sources), their voxels (readers), their check, their folds.

::

    load_scans(folder) -> ScanTable ---> survey_scans -> statistics, findings, content hashes ---> make_folds
                              read_scan(path) -> ScanImage
"""
