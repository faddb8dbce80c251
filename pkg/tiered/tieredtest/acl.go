package tieredtest

import (
	"crypto/rand"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

// User is a user of a server and what he may do.
type User struct {
	Name     string
	Password string
	Rules    []string // as of ACL SETUSER: "~tc:*", "&tc:*", "+get"
}

// WithUsers adds users. The default user, which Options and Client use, still
// may do everything, but has a password now, which is the same for all servers
// that are given the option.
func WithUsers(users ...User) RedisOption {
	admin := rand.Text()
	return func(r *Redis) {
		r.users = append(r.users, users...)
		r.admin = admin
	}
}

// UserOptions returns client options for the named user.
func (r *Redis) UserOptions(t testing.TB, name string) *redis.Options {
	t.Helper()
	i := slices.IndexFunc(r.users, func(u User) bool { return u.Name == name })
	if i < 0 {
		t.Fatalf("user %q: the server was started without it", name)
	}
	o := r.Options()
	o.Username, o.Password = name, r.users[i].Password
	return o
}

func (r *Redis) aclArguments() (args []string) {
	if r.admin != "" {
		// Replicas use the default user as well.
		args = append(args, "--requirepass", r.admin, "--masterauth", r.admin)
	}
	for _, u := range r.users {
		args = append(args, "--user", u.Name, "on", ">"+u.Password)
		args = append(args, u.Rules...)
	}
	return args
}
