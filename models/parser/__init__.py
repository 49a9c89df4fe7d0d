"""The face parser: a visible picture in, FaceSynthetics' 19 pixel classes out."""
