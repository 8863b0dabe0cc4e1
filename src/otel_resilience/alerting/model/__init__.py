"""What alerts and incidents are, and the pure rules of the book of incidents."""
