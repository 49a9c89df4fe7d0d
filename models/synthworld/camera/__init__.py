"""The thermal camera: what it makes of a temperature, and its parameters estimated from frames."""
