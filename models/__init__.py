"""What is computed: networks, losses, samplers, the synthetic world. Plain torch; never imports ray."""
