"""T-FAKE's U-Net told of the room in degrees, kind `room-unet`: one network for all rooms, trained by regression."""
