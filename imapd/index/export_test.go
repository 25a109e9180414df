package index

// SetTransform makes a library one of another version.
func SetTransform(l *Library, version int64) { l.transform = version }
