package server

import "net/http"

// openly tells whether a path is for submissions that web apps make, from pages of
// any origin: the writing half of VKS and HKP. They carry no authority of a
// browser's, no cookie or login, so that a page gets nobody to do what it couldn't
// do itself.
func openly(path string) bool {
	return path == uploadPath || path == requestPath || path == addPath
}

// preflight answers a browser that asks whether it may send JSON there (Fetch
// Standard, CORS-preflight fetch). It costs nothing, and isn't counted as a
// submission.
func preflight(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "POST")
	h.Set("Access-Control-Allow-Headers", "Content-Type")
	h.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
}
