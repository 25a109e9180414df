package render

func (o optional) Text() string { return o.text }
