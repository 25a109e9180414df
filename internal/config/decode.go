package config

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// decoder fills the structs from what TOML's parser gave, and collects every
// problem where a decoder of the library would stop at the first.
type decoder struct {
	file     string
	lines    map[string]int // by key path
	whole    reflect.Value  // all that a file may have; zero where misplaced settings aren't looked for
	problems Problems
}

// structOf is the struct that p points to, to be filled.
func structOf(p any) reflect.Value { return reflect.ValueOf(p).Elem() }

// add records a problem at a key; it blames the line of the nearest key above
// that the file has.
func (d *decoder) add(key, format string, args ...any) {
	d.problems = append(d.problems, Problem{File: d.file, Line: d.line(key), Key: key, Text: fmt.Sprintf(format, args...)})
}

// blamed tells whether something is wrong with a setting itself.
func (d *decoder) blamed(key string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Key == key })
}

func (d *decoder) line(key string) int {
	for key != "" {
		if n := d.lines[key]; n > 0 {
			return n
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 0
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// table fills the struct v from m.
func (d *decoder) table(path string, m map[string]any, v reflect.Value) {
	fields := map[string]reflect.Value{}
	fieldsOf(v, fields)
	for _, key := range slices.Sorted(maps.Keys(m)) {
		f, ok := fields[key]
		if !ok {
			d.unknown(join(path, key), key, slices.Sorted(maps.Keys(fields)))
			continue
		}
		d.value(join(path, key), m[key], f)
	}
}

// fieldsOf collects the fields of a struct by name, with those of structs
// embedded in it.
func fieldsOf(v reflect.Value, into map[string]reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			fieldsOf(v.Field(i), into)
		} else if tag := f.Tag.Get("toml"); tag != "-" {
			into[tag] = v.Field(i)
		}
	}
}

func (d *decoder) unknown(path, key string, known []string) {
	if places := d.places(key); len(places) == 1 || len(places) == 2 {
		d.add(path, "unknown setting here; it belongs %s", strings.Join(places, " or "))
		return
	}
	if best := nearest(key, known); best != "" {
		d.add(path, "unknown setting; did you mean %q?", best)
		return
	}
	d.add(path, "unknown setting; here belong %s", strings.Join(known, ", "))
}

// places are where a setting of that name would be known, for a person. Who adds a
// line to the end of a file adds it to its last table.
func (d *decoder) places(key string) (out []string) {
	if !d.whole.IsValid() {
		return nil
	}
	top := map[string]reflect.Value{}
	fieldsOf(d.whole, top)
	if _, ok := top[key]; ok {
		out = append(out, "at the top of the file, above every line that begins with [")
	}
	for _, name := range slices.Sorted(maps.Keys(top)) {
		t, heading := top[name].Type(), "["+name+"]"
		if t.Kind() == reflect.Slice {
			heading = "[" + heading + "]"
		}
		for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			continue
		}
		inner := map[string]reflect.Value{}
		fieldsOf(reflect.New(t).Elem(), inner)
		if _, ok := inner[key]; ok {
			out = append(out, "under "+heading)
		}
	}
	return out
}

// value fills v from x by v's type.
func (d *decoder) value(path string, x any, v reflect.Value) {
	switch v.Interface().(type) {
	case string:
		if s, ok := x.(string); ok {
			v.SetString(s)
			return
		}
		d.wrong(path, x, `a text in quotes, such as "…"`)
	case bool:
		if b, ok := x.(bool); ok {
			v.SetBool(b)
			return
		}
		d.wrong(path, x, "true or false")
	case int:
		if n, ok := x.(int64); ok && n >= 0 && n <= math.MaxInt32 {
			v.SetInt(n)
			return
		}
		d.wrong(path, x, "a number without quotes")
	case *bool:
		if b, ok := x.(bool); ok {
			v.Set(reflect.ValueOf(&b))
			return
		}
		d.wrong(path, x, "true or false")
	case Strings:
		if s, ok := x.(string); ok {
			v.Set(reflect.ValueOf(Strings{s}))
			return
		}
		if l, ok := d.strings(path, x, `one text in quotes or a list of them`); ok {
			v.Set(reflect.ValueOf(Strings(l)))
		}
	case []string:
		if l, ok := d.strings(path, x, `a list, such as ["…", "…"]`); ok {
			v.Set(reflect.ValueOf(l))
		}
	case map[string]string:
		d.stringMap(path, x, v)
	case map[string][]string:
		d.listMap(path, x, v)
	default:
		d.nested(path, x, v)
	}
}

func (d *decoder) wrong(path string, x any, want string) {
	kind := map[reflect.Kind]string{reflect.String: "a text", reflect.Bool: "true or false", reflect.Int64: "a number",
		reflect.Float64: "a number", reflect.Slice: "a list", reflect.Map: "a table"}[reflect.ValueOf(x).Kind()]
	if kind == "" {
		kind = "something else"
	}
	d.add(path, "is %s; write %s", kind, want)
}

func (d *decoder) strings(path string, x any, want string) ([]string, bool) {
	l, ok := x.([]any)
	if !ok {
		d.wrong(path, x, want)
		return nil, false
	}
	out := make([]string, len(l))
	for i, e := range l {
		if out[i], ok = e.(string); !ok {
			d.wrong(path, e, "only texts in quotes in this list")
			return nil, false
		}
	}
	return out, true
}

func (d *decoder) stringMap(path string, x any, v reflect.Value) {
	m, ok := x.(map[string]any)
	if !ok {
		d.wrong(path, x, `a table, such as { "example.org" = "…" }`)
		return
	}
	out := map[string]string{}
	for k, e := range m {
		if out[k], ok = e.(string); !ok {
			d.wrong(join(path, k), e, "a text in quotes")
		}
	}
	v.Set(reflect.ValueOf(out))
}

func (d *decoder) listMap(path string, x any, v reflect.Value) {
	m, ok := x.(map[string]any)
	if !ok {
		d.wrong(path, x, `a table of lists, such as { board = ["…", "…"] }`)
		return
	}
	out := map[string][]string{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out[k], _ = d.strings(join(path, k), m[k], `a list, such as ["…", "…"]`)
	}
	v.Set(reflect.ValueOf(out))
}

// nested fills structs, pointers to them and lists of them.
func (d *decoder) nested(path string, x any, v reflect.Value) {
	if v.Kind() == reflect.Slice {
		l, ok := x.([]map[string]any)
		if !ok {
			d.wrong(path, x, fmt.Sprintf("[[%s]] above each of them", path))
			return
		}
		for i, m := range l {
			e := reflect.New(v.Type().Elem())
			if b, ok := e.Interface().(interface{ setDefaults() }); ok {
				b.setDefaults()
			}
			d.table(path+"["+strconv.Itoa(i)+"]", m, e.Elem())
			v.Set(reflect.Append(v, e.Elem()))
		}
		return
	}
	m, ok := x.(map[string]any)
	if !ok {
		want := fmt.Sprintf("[%s] above its settings", path)
		if e, ok := v.Interface().(interface{ example(path string) string }); ok {
			want = e.example(path)
		}
		d.wrong(path, x, want)
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		if b, ok := v.Interface().(interface{ setDefaults() }); ok {
			b.setDefaults()
		}
		v = v.Elem()
	}
	d.table(path, m, v)
}

// nearest is the known word that differs least from s, if it differs little.
func nearest(s string, known []string) string {
	best, least := "", 1+max(1, len(s)/3)
	for _, k := range known {
		if n := distance(strings.ToLower(s), k); n < least {
			best, least = k, n
		}
	}
	return best
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
