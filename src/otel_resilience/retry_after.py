def parse_retry_after(value, *, date=None, now=None): return None
