"""FaceCLIP's claim, measured: one embedding of face and text against identity by an adapter, at equal data and compute."""
