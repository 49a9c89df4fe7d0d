"""How models do on people whom they were not trained on: errors, with intervals over people."""
