package tiered

import (
	"context"
	_ "embed" // for the scripts
	"strings"

	"github.com/redis/go-redis/v9"
)

// The scripts are one round trip each: EVALSHA, and EVAL once if Redis does
// not know the script (restarted, SCRIPT FLUSH, another master).
var (
	//go:embed lua/entry.lua
	luaEntry string
	//go:embed lua/getlease.lua
	luaGetLease string
	//go:embed lua/fill.lua
	luaFill string
	//go:embed lua/release.lua
	luaRelease string
	//go:embed lua/set.lua
	luaSet string
	//go:embed lua/delete.lua
	luaDelete string
	//go:embed lua/tag.lua
	luaTag string
	//go:embed lua/invalidate.lua
	luaInvalidate string
	//go:embed lua/prefix.lua
	luaPrefix string
	//go:embed lua/read.lua
	luaRead string
	//go:embed lua/update.lua
	luaUpdate string
	//go:embed lua/expire.lua
	luaExpire string
	//go:embed lua/hold.lua
	luaHold string
	//go:embed lua/sethold.lua
	luaSetHeld string
	//go:embed lua/extend.lua
	luaExtend string

	scriptGetLease   = redis.NewScript(luaEntry + luaGetLease)
	scriptFill       = redis.NewScript(luaEntry + luaFill)
	scriptRelease    = redis.NewScript(luaRelease)
	scriptSet        = redis.NewScript(luaEntry + luaSet)
	scriptDelete     = redis.NewScript(luaEntry + luaDelete)
	scriptTag        = redis.NewScript(luaEntry + luaTag)
	scriptInvalidate = redis.NewScript(luaEntry + luaInvalidate)
	scriptPrefix     = redis.NewScript(luaEntry + luaPrefix)
	scriptRead       = redis.NewScript(luaEntry + luaRead)
	scriptUpdate     = redis.NewScript(luaEntry + luaUpdate)
	scriptExpire     = redis.NewScript(luaEntry + luaExpire)
	scriptHold       = redis.NewScript(luaEntry + luaHold)
	scriptSetHeld    = redis.NewScript(luaEntry + luaSetHeld)
	scriptExtend     = redis.NewScript(luaEntry + luaExtend)
)

// call is one run of a script in a pipeline.
type call struct {
	script *redis.Script
	keys   []string
	args   []any
	cmd    *redis.Cmd
}

// runAll runs the calls in one pipeline, and in a second one those whose
// script was not known. Each call's cmd has its result; the error is that of
// the connection, or else the first of a call.
func runAll(ctx context.Context, c redis.UniversalClient, calls []*call) error {
	exec := func(calls []*call, sha bool) {
		p := c.Pipeline()
		for _, call := range calls {
			if sha {
				call.cmd = call.script.EvalSha(ctx, p, call.keys, call.args...)
			} else {
				call.cmd = call.script.Eval(ctx, p, call.keys, call.args...)
			}
		}
		_, _ = p.Exec(ctx) // every cmd has its own error
	}
	exec(calls, true)
	var again []*call
	for _, call := range calls {
		if err := call.cmd.Err(); err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			again = append(again, call)
		}
	}
	if len(again) > 0 {
		exec(again, false)
	}
	for _, call := range calls {
		if err := call.cmd.Err(); err != nil {
			return err
		}
	}
	return nil
}
