"""Published data sets, each by the layout that it is given out in. None is downloaded: who has one names its folder."""
