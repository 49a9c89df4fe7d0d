"""`thermapair evaluate landmarks`: what generated thermal pictures are worth to a landmarker."""
