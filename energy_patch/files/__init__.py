"""What lies on the disk, and changing it, all or none."""
