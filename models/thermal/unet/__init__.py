"""T-FAKE's thermalizer: a U-Net for each condition that it has learned, from the masked visible picture to temperature."""
