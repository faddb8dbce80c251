package ratelimit

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Headers tells the decisions on one request, in the headers of the answer, as
// pairs of name and value. RateLimit-Policy and RateLimit are those of
// draft-ietf-httpapi-ratelimit-headers-10: lists of RFC 9651, of a string with
// the quota q and the window w, and with what remains, r, and the time t until
// more is there. The X-RateLimit ones, which no document defines, know but one
// limit, that which refused, or else that of which the least is left, and the
// time until all of it is there. Times are in seconds.
func Headers(all ...Decision) [][2]string {
	if len(all) == 0 {
		return nil
	}
	tightest := slices.MinFunc(all, func(a, b Decision) int {
		return cmp.Or(bit(a.Allowed)-bit(b.Allowed), -cmp.Compare(a.RetryAfter, b.RetryAfter), cmp.Compare(a.Remaining, b.Remaining))
	})
	var policies, states []string
	for _, d := range all {
		policies = append(policies, fmt.Sprintf(`"%s";q=%d;w=%d`, d.Policy.Name, d.Policy.Limit, Seconds(d.Policy.Window)))
		states = append(states, fmt.Sprintf(`"%s";r=%d;t=%d`, d.Policy.Name, d.Remaining, Seconds(d.More)))
	}
	h := [][2]string{
		{"X-RateLimit-Limit", strconv.Itoa(tightest.Policy.Limit)},
		{"X-RateLimit-Remaining", strconv.Itoa(tightest.Remaining)},
		{"X-RateLimit-Reset", strconv.Itoa(Seconds(tightest.Reset))},
		{"RateLimit-Policy", strings.Join(policies, ", ")},
		{"RateLimit", strings.Join(states, ", ")},
	}
	if !tightest.Allowed {
		h = append(h, [2]string{"Retry-After", strconv.Itoa(max(1, Seconds(tightest.RetryAfter)))})
	}
	return h
}
