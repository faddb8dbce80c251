package db

import (
	"bytes"
	"strings"
)

// maxStatement bounds the text that a span carries.
const maxStatement = 2 << 10

// withoutValues returns a statement with every literal replaced by a question
// mark, and a list of them by one: notes and addresses of people must not get
// into a trace. Names, quoted or not, and $1 stay.
func withoutValues(query string) string {
	b := make([]byte, 0, min(len(query), maxStatement))
	for i := 0; i < len(query) && len(b) < maxStatement; {
		switch c := query[i]; {
		case c == '\'':
			i = endOfQuoted(query, i)
			b = appendValue(b)
		case c == '"':
			end := endOfQuoted(query, i)
			b = append(b, query[i:end]...)
			i = end
		case isDigit(c):
			for i < len(query) && (isWord(query[i]) || query[i] == '.') {
				i++
			}
			b = appendValue(b)
		case c == '$' || isWord(c):
			end := i + 1
			for end < len(query) && isWord(query[end]) {
				end++
			}
			word := query[i:end]
			if end < len(query) && query[end] == '\'' && len(word) == 1 && strings.ContainsAny(word, "xXeEbBnN") {
				i = end // the prefix of a literal
				continue
			}
			b = append(b, word...)
			i = end
		default:
			b = append(b, c)
			i++
		}
	}
	return string(b)
}

// appendValue adds a question mark, unless one stands before it in a list.
func appendValue(b []byte) []byte {
	if list, ok := bytes.CutSuffix(bytes.TrimRight(b, " "), []byte{','}); ok && bytes.HasSuffix(list, []byte{'?'}) {
		return list
	}
	return append(b, '?')
}

// endOfQuoted returns the index after the quoted text that begins at i. A
// quote that never ends goes to the end.
func endOfQuoted(s string, i int) int {
	quote := s[i]
	for i++; i < len(s); i++ {
		if s[i] != quote {
			continue
		}
		if i+1 < len(s) && s[i+1] == quote {
			i++ // doubled: part of the text
			continue
		}
		return i + 1
	}
	return len(s)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isWord(c byte) bool {
	return c == '_' || isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}

// summary returns what a statement does and to which table, for the name of
// its span: "SELECT habits". What stands in parentheses does not count.
func summary(query string) string {
	words := strings.Fields(outside(query[:min(len(query), maxStatement)]))
	if len(words) == 0 {
		return "query"
	}
	verb := strings.ToUpper(words[0])
	var before string
	switch verb {
	case "SELECT", "WITH", "DELETE":
		before = "FROM"
	case "INSERT":
		before = "INTO"
	case "UPDATE":
		before = "UPDATE"
	default:
		return verb
	}
	for i, w := range words[:len(words)-1] {
		if strings.EqualFold(w, before) {
			return verb + " " + strings.Trim(words[i+1], `",;`)
		}
	}
	return verb
}

// outside returns a statement without what stands in parentheses or quotes.
func outside(query string) string {
	b := make([]byte, 0, len(query))
	depth := 0
	for i := 0; i < len(query); i++ {
		switch c := query[i]; c {
		case '\'':
			i = endOfQuoted(query, i) - 1
		case '(':
			depth++
			b = append(b, ' ')
		case ')':
			depth--
		default:
			if depth == 0 {
				b = append(b, c)
			}
		}
	}
	return string(b)
}
