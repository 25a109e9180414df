package main

import "io"

// Main is for the scripts, which run it as the letterlock command.
var Main = main

// StoreLost is what serve watches its store by.
var StoreLost = storeLost

// JSONOf and JSONListOf are a list written whole and element by element.
func JSONOf(w io.Writer, vs ...any) error { return (&env{stdout: w}).json(vs) }

func JSONListOf(w io.Writer, vs ...any) error {
	l := (&env{stdout: w}).jsonList()
	for _, v := range vs {
		if err := l.put(v); err != nil {
			return err
		}
	}
	l.end()
	return nil
}
