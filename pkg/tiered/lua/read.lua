-- KEYS data. Returns the entry, empty if there is none.
return read('GET', KEYS[1]) or ''
