"""Pictures of a scene: colour, temperature, classes, landmarks, and what a data set's camera delivers."""
