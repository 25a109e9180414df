package config

import (
	"strconv"
	"strings"
)

// locate tells on which line each key of a well-formed file stands, by paths
// such as "bridge[0].imap" and, within a line's inline table, "bridge[0].imap.listen".
// TOML's parser keeps positions to itself. What is laid out in an unusual way
// (multi-line strings, inline tables over several lines) may be missed; then the
// line of the table is blamed.
func locate(text string) map[string]int {
	lines, counts := map[string]int{}, map[string]int{}
	prefix, depth := "", 0
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(strip(line))
		switch {
		case depth > 0: // within a list or table that began above
		case strings.HasPrefix(line, "[["):
			name := resolve(words(strings.Trim(line, "[] ")), counts)
			prefix = name + "[" + strconv.Itoa(counts[name]) + "]"
			counts[name]++
			lines[prefix] = i + 1
			continue
		case strings.HasPrefix(line, "["):
			prefix = resolve(words(strings.Trim(line, "[] ")), counts)
			lines[prefix] = i + 1
			continue
		default:
			keys(line, prefix, i+1, lines)
		}
		depth = max(0, depth+nesting(line))
	}
	return lines
}

// resolve is the path of a table's name: a part that is a list means its last.
func resolve(parts []string, counts map[string]int) string {
	path := ""
	for i, p := range parts {
		path = join(path, p)
		if n := counts[path]; n > 0 && i < len(parts)-1 {
			path += "[" + strconv.Itoa(n-1) + "]"
		}
	}
	return path
}

// keys notes the key of a line and those of an inline table in it.
func keys(line, prefix string, n int, lines map[string]int) {
	left, right, ok := cut(line, '=')
	if !ok {
		return
	}
	path := prefix
	for _, w := range words(left) {
		path = join(path, w)
	}
	if _, seen := lines[path]; !seen {
		lines[path] = n
	}
	right = strings.TrimSpace(right)
	if !strings.HasPrefix(right, "{") {
		return
	}
	right = strings.TrimSuffix(strings.TrimPrefix(right, "{"), "}")
	for right != "" {
		var one string
		one, right, _ = cut(right, ',')
		keys(strings.TrimSpace(one), path, n, lines)
	}
}

// words are the parts of a dotted key, without their quotes.
func words(s string) []string {
	var out []string
	for s != "" {
		var w string
		w, s, _ = cut(s, '.')
		out = append(out, strings.Trim(strings.TrimSpace(w), `"'`))
	}
	return out
}

// outside calls f for each byte of s that is not within quotes, until f says stop.
func outside(s string, f func(i int, c byte) (stop bool)) {
	quote := byte(0)
	for i := range len(s) {
		c := s[i]
		switch {
		case quote != 0:
			if c == quote && (quote == '\'' || s[i-1] != '\\') {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case f(i, c):
			return
		}
	}
}

// cut cuts s around the first sep that is outside quotes and brackets.
func cut(s string, sep byte) (before, after string, found bool) {
	before, depth := s, 0
	outside(s, func(i int, c byte) bool {
		if c == sep && depth == 0 {
			before, after, found = s[:i], s[i+1:], true
			return true
		}
		depth += bracket(c)
		return false
	})
	return before, after, found
}

// strip cuts a comment off.
func strip(line string) string {
	cut := line
	outside(line, func(i int, c byte) bool {
		if c == '#' {
			cut = line[:i]
		}
		return c == '#'
	})
	return cut
}

// nesting is how many brackets a line leaves open.
func nesting(line string) int {
	n := 0
	outside(line, func(_ int, c byte) bool { n += bracket(c); return false })
	return n
}

func bracket(c byte) int {
	switch c {
	case '[', '{':
		return 1
	case ']', '}':
		return -1
	}
	return 0
}
