package redisconn

// Signals are what alerts watch, each as of the last check or the last minutes;
// false while there is nothing to measure. They ask nobody.
func (c *Conn) Signals() map[string]func() (value float64, ok bool) {
	if c.client == nil {
		return nil
	}
	return map[string]func() (float64, bool){
		"redis_consecutive_failures": func() (float64, bool) { return float64(c.Status().Failures), true },
		"redis_memory_ratio": func() (float64, bool) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.status.Up {
				return 0, false
			}
			return c.health.memoryPart()
		},
	}
}
