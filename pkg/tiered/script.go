package tiered

import (
	"context"
	_ "embed" // for the scripts
	"errors"
	"fmt"
	"slices"
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
	//go:embed lua/put.lua
	luaPut string
	//go:embed lua/set.lua
	luaSet string
	//go:embed lua/sets.lua
	luaSets string
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
	scriptSet        = redis.NewScript(luaEntry + luaPut + luaSet)
	scriptSets       = redis.NewScript(luaEntry + luaPut + luaSets)
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

// setsSize is how many entries one script sets: about half a millisecond of the
// server's time, in which it serves nobody else.
const setsSize = 64

// runSets is runAll of calls of scriptSet, many in one script where one server
// has all keys: it spares the server a third of its time.
func (r *remote) runSets(ctx context.Context, calls []*call) error {
	one, ok := r.c.(*redis.Client)
	if !ok || r.sharded.Load() || len(calls) < 2 {
		return runAll(ctx, r.c, calls)
	}
	var merged []*call
	for part := range slices.Chunk(calls, setsSize) {
		merged = append(merged, mergeSets(part))
	}
	if err := runAll(ctx, one, merged); err != nil {
		if !refused(err) {
			return err
		}
	}
	var alone []*call
	for part := range slices.Chunk(calls, setsSize) {
		whole := merged[0]
		merged = merged[1:]
		results, err := whole.cmd.Slice()
		if err == nil && len(results) != len(part) {
			return fmt.Errorf("sets answered %d values of %d", len(results), len(part))
		}
		if err != nil {
			// The script as a whole was refused before it did anything, for one of
			// its keys perhaps: that is the others' business no more.
			alone = append(alone, part...)
			continue
		}
		for i, c := range part {
			c.cmd = redis.NewCmd(ctx)
			if text, failed := results[i].(string); failed {
				c.cmd.SetErr(scriptError(text))
			} else {
				c.cmd.SetVal(results[i])
			}
		}
	}
	if len(alone) > 0 {
		if err := runAll(ctx, one, alone); err != nil {
			return err
		}
	}
	for _, c := range calls {
		if err := c.cmd.Err(); err != nil {
			return err
		}
	}
	return nil
}

// mergeSets makes one call of many of scriptSet.
func mergeSets(calls []*call) *call {
	m := &call{script: scriptSets, keys: make([]string, 0, 2*len(calls)), args: make([]any, 1, 1+6*len(calls))}
	m.args[0] = calls[0].args[0]
	for _, c := range calls {
		m.keys = append(m.keys, c.keys...)
		m.args = append(m.args, c.args[1:]...)
	}
	return m
}

// refused reports whether an error is Redis's answer to a command that it did
// not begin, and might to others like it.
func refused(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && !isFailure(err)
}

// scriptError is a command's error that a script has answered as a text.
type scriptError string

func (e scriptError) Error() string { return string(e) }

// RedisError says that Redis has answered.
func (scriptError) RedisError() {}
