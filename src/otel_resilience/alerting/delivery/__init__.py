"""From an incident to a confirmed notification: dispatch, a worker per channel, receipts, pending notifications."""
