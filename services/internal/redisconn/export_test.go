package redisconn

// ParseInfo is parseInfo for tests.
var ParseInfo = parseInfo
