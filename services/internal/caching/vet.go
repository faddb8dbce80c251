package caching

import (
	"fmt"
	"reflect"
	"regexp"
	"time"
)

// telling are names of fields that speak of what must not be cached.
var telling = regexp.MustCompile(`(?i)passw|secret|token|hash|cookie|credential|apikey|api_key|private_?key|otp|seed`)

// vet reports what of a type may not be cached. A field that encoding/json
// leaves out, being unexported or tagged "-", does not reach Redis.
func vet[V any]() error {
	t := reflect.TypeFor[V]()
	return walk(t, t.String(), map[reflect.Type]bool{})
}

func walk(t reflect.Type, path string, seen map[reflect.Type]bool) error {
	if t == reflect.TypeFor[time.Time]() || seen[t] {
		return nil
	}
	seen[t] = true
	switch t.Kind() { //nolint:exhaustive // whatever has no parts is as it says
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return walk(t.Elem(), path, seen)
	case reflect.Map:
		return walk(t.Elem(), path+"[]", seen)
	case reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return fmt.Errorf("%s is a %s: what it holds cannot be known; cache a type that says it", path, t.Kind())
	case reflect.Struct:
		for f := range t.Fields() {
			if !f.IsExported() && !f.Anonymous || f.Tag.Get("json") == "-" {
				continue
			}
			at := path + "." + f.Name
			if telling.MatchString(f.Name) || telling.MatchString(f.Tag.Get("json")) {
				return fmt.Errorf("%s has the name of a secret: leave it out of what is cached, or tag it json:\"-\"", at)
			}
			if err := walk(f.Type, at, seen); err != nil {
				return err
			}
		}
	}
	return nil
}
