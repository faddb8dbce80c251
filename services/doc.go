// Package services is everything that is deployed. It holds no code of its own:
// its test says which of the packages below may import which.
package services
