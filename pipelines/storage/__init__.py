"""Where runs lie: any URI, commit records that are created once, and the lease of a driver."""
