"""The commands of `thermapair`, a file each; what several share is in `options`."""
