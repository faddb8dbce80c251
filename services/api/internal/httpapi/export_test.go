package httpapi

// ProblemOf is what an error is told as.
var ProblemOf = problem

// Problems returns one problem of every kind.
func Problems() (all []*Problem) {
	for _, k := range kinds {
		all = append(all, newProblem(k, nil))
	}
	return all
}
