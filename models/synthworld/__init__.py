"""A synthetic world of people with ground truth: geometry, colour, temperature, classes and landmarks."""
