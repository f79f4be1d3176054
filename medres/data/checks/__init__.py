"""The checks of a data set, by subject. Each takes what a survey knows and yields findings; none raises.

::

    scans.check_scans -> content    constant, nearly empty, mixed dimensions, modalities, colour
                         geometry   spacing, size
                         intensity  values unlike those of the others
                         notes      what the readers had to decide
                         faces      scans that may show one
                         (medres.data.leakage: copies and patients on two sides)
    recorded.check_recorded         against the scans.csv of an earlier run
"""
