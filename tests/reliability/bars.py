BARS = ()
