"""What a sync needs that several processes carry out together."""
