package form

import "strings"

// unflow joins the lines of format=flowed text to paragraphs (RFC 3676, Section
// 4), which the reader's screen breaks anew. Line ends are LF.
func unflow(text string, delsp bool) string {
	var b strings.Builder
	open, depth := false, 0 // the line before ends in a soft break, within so many quotes
	for line := range strings.SplitAfterSeq(text, "\n") {
		quotes := len(line) - len(strings.TrimLeft(line, ">"))
		content := strings.TrimSuffix(strings.TrimPrefix(line[quotes:], " "), "\n") // Section 4.4: space-stuffing
		signature := content == "-- "                                               // Section 4.3
		if open && (quotes != depth || signature) {
			b.WriteByte('\n')
			open = false
		}
		if !open && quotes > 0 {
			b.WriteString(strings.Repeat(">", quotes) + " ")
		}
		open = strings.HasSuffix(content, " ") && !signature && strings.HasSuffix(line, "\n")
		if depth = quotes; open && delsp {
			content = content[:len(content)-1]
		}
		b.WriteString(content)
		if !open && strings.HasSuffix(line, "\n") {
			b.WriteByte('\n')
		}
	}
	return b.String()
}
