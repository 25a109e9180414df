package pgp_test

import (
	"encoding/base64"
	"testing"

	"letterlock.org/letterlock/pgp"
)

// fixedCouple is a couple whose keys are the same in every process and never expire:
// what a fuzzer found decrypts in its other processes, and the next day, too.
func fixedCouple(t testing.TB) *couple {
	t.Helper()
	var all []*pgp.Key
	for _, s := range []string{fixedAlice, fixedBob, fixedMallory} {
		b, err := base64.StdEncoding.DecodeString(s)
		must(t, err)
		keys, err := pgp.ParseKeys(b, nil)
		must(t, err)
		all = append(all, keys...)
	}
	return &couple{all[0], all[1], all[2]}
}

// Keys of 2026-01-01, made for these tests.
const (
	fixedAlice = "" +
		"xVgEaVW5ABYJKwYBBAHaRw8BAQdA7Plschl/LAyBfh6G11OljeQ6+uCsQcQ3qGT5SnvDVfAAAP4zmNU5fu5pPr4ny0Mh7hHmtMR2" +
		"Lqmr8tQAQ78vgUEI9xELzRM8YWxpY2VAZXhhbXBsZS5vcmc+wr4EExYIAHAFgmlVuQADCwkHCRDeyIa3wJ6xGjUUAAAAAAAcABBz" +
		"YWx0QG5vdGF0aW9ucy5vcGVucGdwanMub3JnTwmJgLUPOQsYWYtrQWNNpgIVCAIWAAIZAQKbAwIeARYhBBlPXPyfNfgV7PLjsN7I" +
		"hrfAnrEaAABi7gD+IRbj+Ev5Fs5ESjf3cM/mkBg0pIZ4gJr1nUyLbW2ZoWIBALs8mbicQqy/hOQgRH0Iok9kXx6+GViQcfS9E5wC" +
		"IV0Lx10EaVW5ABIKKwYBBAGXVQEFAQEHQCc3X+tXDtzC8BQFwUEt7QDnH8WQKxRJTSQCjW2nyJMzAwEKCQAA/0EEelePeWPP1YGC" +
		"anvyMoK8FNb+AdQ/lZyx+S+Sz2lgEZ7CrgQYFggAYAWCaVW5AAkQ3siGt8CesRo1FAAAAAAAHAAQc2FsdEBub3RhdGlvbnMub3Bl" +
		"bnBncGpzLm9yZyp20pqdoB70np9e6pA07VUCmwwWIQQZT1z8nzX4Fezy47DeyIa3wJ6xGgAAWHcA/i81Kt/w+IRSfvGAVV4iG4uQ" +
		"fuelKfZLDSxF45DuiNDxAQDoPYi9DszqupfuOy+wI6yRmCUJx4tV/QjgTmKzZwa7BQ=="
	fixedBob = "" +
		"xVgEaVW5ABYJKwYBBAHaRw8BAQdAnLoQsLie7MD7DdumHwmM+vAT4DV8QLWAGOr6wQb7NhgAAP4qmbGGDtyyuYRsDmc2rgDmqZFH" +
		"hX422uNfyoU7nhpwBhAKzRE8Ym9iQGV4YW1wbGUub3JnPsK+BBMWCABwBYJpVbkAAwsJBwkQ7q6lGVknxzw1FAAAAAAAHAAQc2Fs" +
		"dEBub3RhdGlvbnMub3BlbnBncGpzLm9yZ52P9grgu2+kE593g9SoukQCFQgCFgACGQECmwMCHgEWIQTLo5KoiEmDhWYU13HurqUZ" +
		"WSfHPAAAMw0A/2eMmOMbCBsSMnR/uyb1q1XxIWfEc1Mig/yyMABlEx6TAQDS8LGL0f1H5bGw4USbOvFjvHRWdFbDHWh+USEjrOs6" +
		"BMddBGlVuQASCisGAQQBl1UBBQEBB0CDIUdOQgwEXT68o9CA0/hYKS4/NC2TK9vY2A+Ytq4CVwMBCgkAAP9yEZarIVOmCfToDblR" +
		"ckMXWooOIVoxMlYXTSzdc+kSoA1Gwq4EGBYIAGAFgmlVuQAJEO6upRlZJ8c8NRQAAAAAABwAEHNhbHRAbm90YXRpb25zLm9wZW5w" +
		"Z3Bqcy5vcmeNN+wB9HCHPYrJtqWyVQXFApsMFiEEy6OSqIhJg4VmFNdx7q6lGVknxzwAAAYuAQDM0a9CLZ/aH1PpZUfuIVD/Xe6L" +
		"EG+BMBuj83glwFKtowEAiJJy9k7znx7UDajnsbf5H6XlLQ7GPRTOGmoeWmjOZws="
	fixedMallory = "" +
		"xVgEaVW5ABYJKwYBBAHaRw8BAQdABcBUn4ruUXw7W/1UFM3ZJm9I2crOg4iUd5PnTBliFScAAPwLNb7YzMWh6yjtIjADad6xdUHy" +
		"kDdiPWyUvvltc69CEhD5zRU8bWFsbG9yeUBleGFtcGxlLm5ldD7CvgQTFggAcAWCaVW5AAMLCQcJEJ32n2er9N5tNRQAAAAAABwA" +
		"EHNhbHRAbm90YXRpb25zLm9wZW5wZ3Bqcy5vcmccRA4Gl/m9FzRlMyRetgmbAhUIAhYAAhkBApsDAh4BFiEEDDH6BQRSWm7mXP/J" +
		"nfafZ6v03m0AADbSAQDRdTL1Wion/UH7s7fVlsdyKhYw11sMJ3bsooR9sjPIpgEAkpCRSxO4blwAL0QucnIe+8onWYUVSunOd0is" +
		"l2kcJgnHXQRpVbkAEgorBgEEAZdVAQUBAQdAnCm5Ygl2biRjchLeltvz8SiIUeOmFxYVeWPbkT8nYg4DAQoJAAD/Z5Mdc9jQzO7K" +
		"6LEtyTTw3pXWYA3c0CVBSeE0tDmh/XgTkcKuBBgWCABgBYJpVbkACRCd9p9nq/TebTUUAAAAAAAcABBzYWx0QG5vdGF0aW9ucy5v" +
		"cGVucGdwanMub3Jn5ws23vzd94Iw65G+/tT2qAKbDBYhBAwx+gUEUlpu5lz/yZ32n2er9N5tAAC7nwD9EEjS8TfvBeU6duV94m1t" +
		"1K9nbmEAoceAQ6hxSrohGcMA/jI2yZ+Ru7nr6Bj2C5WQxG4x+r9OVsnNMoE26fSl3RcF"
)
