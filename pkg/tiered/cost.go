package tiered

import "reflect"

// estimate walks a value and guesses its bytes of memory. It stops after some
// hundreds of nodes and extrapolates, for a guess must not cost more than the
// encoding would.
func estimate(v any) int64 {
	e := estimator{budget: 512}
	return e.size(reflect.ValueOf(v), 0)
}

// estimateAt is estimate, without a copy of what is common.
func estimateAt[V any](v *V) int64 {
	switch p := any(v).(type) {
	case *string:
		return int64(reflect.TypeFor[string]().Size()) + int64(len(*p))
	case *[]byte:
		return int64(reflect.TypeFor[[]byte]().Size()) + int64(cap(*p))
	}
	return estimate(*v)
}

// flatSize is the size of values of a type without pointers; -1 if it may have
// some.
func flatSize(t reflect.Type) int64 {
	switch {
	case isFlat(t.Kind()):
	case t.Kind() == reflect.Array && flatSize(t.Elem()) >= 0:
	case t.Kind() == reflect.Struct:
		for f := range t.Fields() {
			if flatSize(f.Type) < 0 {
				return -1
			}
		}
	default:
		return -1
	}
	return int64(t.Size())
}

type estimator struct{ budget int }

func (e *estimator) size(v reflect.Value, depth int) int64 {
	if !v.IsValid() {
		return 0
	}
	return int64(v.Type().Size()) + e.behind(v, depth)
}

// behind is what v points to beyond its own size.
func (e *estimator) behind(v reflect.Value, depth int) int64 {
	if e.budget--; e.budget < 0 || depth > 16 {
		return 0
	}
	switch v.Kind() {
	case reflect.String:
		return int64(v.Len())
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return 0
		}
		return e.size(v.Elem(), depth+1)
	case reflect.Struct:
		var sum int64
		for i := range v.NumField() { //nolint:modernize // Fields would make a StructField of each
			sum += e.behind(v.Field(i), depth+1)
		}
		return sum
	case reflect.Slice, reflect.Array:
		var sum int64
		if v.Kind() == reflect.Slice {
			sum = int64(v.Cap()) * int64(v.Type().Elem().Size())
		}
		if isFlat(v.Type().Elem().Kind()) {
			return sum
		}
		n := min(v.Len(), 64)
		var seen int64
		for i := range n {
			seen += e.behind(v.Index(i), depth+1)
		}
		if n > 0 {
			sum += seen * int64(v.Len()) / int64(n)
		}
		return sum
	case reflect.Map:
		n := 0
		var seen int64
		for it := v.MapRange(); n < 64 && it.Next(); n++ {
			seen += 16 + e.size(it.Key(), depth+1) + e.size(it.Value(), depth+1)
		}
		if n == 0 {
			return 48
		}
		return 48 + seen*int64(v.Len())/int64(n)
	default:
		return 0
	}
}

func isFlat(k reflect.Kind) bool { return k <= reflect.Complex128 }
