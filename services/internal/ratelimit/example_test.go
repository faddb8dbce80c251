package ratelimit_test

import (
	"context"
	"fmt"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
)

func Example() {
	limits, err := ratelimit.New(ratelimit.Options{}) // with a Client, for all nodes
	if err != nil {
		panic(err)
	}
	logins, err := limits.Limiter(ratelimit.Policy{
		Name: "login", Algorithm: ratelimit.Sliding, Limit: 2, Window: time.Minute,
	})
	if err != nil {
		panic(err)
	}
	for range 3 {
		d := logins.Take(context.Background(), "ann@example.org", ratelimit.Address("2001:db8::1"))
		fmt.Println(d.Allowed, d.Remaining)
	}
	// Output:
	// true 1
	// true 0
	// false 0
}
