package login

import (
	"io/fs"
	"testing"

	"github.com/letterlock-mail/letterlock/internal/provider"
)

func TestChoose(t *testing.T) {
	const (
		browser, device, paste = provider.FlowBrowser, provider.FlowDevice, provider.FlowPaste
		credentials            = provider.FlowClientCredentials
	)
	flows := func(all ...provider.Flow) []provider.Flow { return all }
	all := flows(browser, device, paste)
	tests := []struct {
		name    string
		around  Surroundings
		allowed []provider.Flow
		want    provider.Flow
		why     string
	}{
		{"desktop", Surroundings{Display: true}, all, browser, "a browser can be opened here"},
		{"browser named", Surroundings{BrowserSet: true}, all, browser, "a browser can be opened here"},
		{"desktop, order does not matter", Surroundings{Display: true}, flows(paste, device, browser), browser, "a browser can be opened here"},
		{"desktop, device only", Surroundings{Display: true}, flows(device), device, "the provider allows nothing else"},
		{"desktop, paste only", Surroundings{Display: true}, flows(paste), paste, "the provider allows no listener"},
		{"ssh", Surroundings{SSH: true}, all, device, "this is an ssh session"},
		{"ssh, no device", Surroundings{SSH: true}, flows(browser, paste), paste, "this is an ssh session"},
		{"ssh, browser only is paste", Surroundings{SSH: true}, flows(browser), paste, "this is an ssh session"},
		{"ssh with X", Surroundings{SSH: true, Display: true, BrowserSet: true}, all, device, "this is an ssh session"},
		{"ssh with X, asked for before", Surroundings{SSH: true, Display: true, Last: browser}, all, browser, "as last time"},
		{"ssh, browser before", Surroundings{SSH: true, Last: browser}, all, device, "this is an ssh session"},
		{"no display", Surroundings{Terminal: true}, all, device, "there is no display"},
		{"no display, google", Surroundings{Terminal: true}, flows(browser, paste), paste, "there is no display"},
		{"container", Surroundings{Container: true, Display: true, BrowserSet: true}, all, device, "this is a container"},
		{"container, browser before", Surroundings{Container: true, Display: true, Last: browser}, all, device, "this is a container"},
		{"paste before", Surroundings{Display: true, Last: paste}, all, paste, "as last time"},
		{"paste before, browser allowed", Surroundings{Display: true, Last: paste}, flows(browser), paste, "as last time"},
		{"device before", Surroundings{Display: true, Last: device}, all, device, "as last time"},
		{"device before, no longer allowed", Surroundings{Display: true, Last: device}, flows(browser), browser, "a browser can be opened here"},
		{"browser before", Surroundings{Display: true, Last: browser}, all, browser, "as last time"},
		{"browser before, no longer allowed", Surroundings{Display: true, Last: browser}, flows(device), device, "the provider allows nothing else"},
		{"another kind before", Surroundings{Display: true, Last: credentials}, all, browser, "a browser can be opened here"},
		{"nothing for a person", Surroundings{Display: true}, flows(credentials), credentials, "the provider allows nothing else"},
		{"nothing known", Surroundings{}, nil, paste, "there is no display"},
		{"nothing known, display", Surroundings{Display: true}, nil, paste, "the provider allows no listener"},
	}
	for _, test := range tests {
		flow, why := Choose(test.around, test.allowed)
		if flow != test.want || why != test.why {
			t.Errorf("%s: %s, %q, want %s, %q", test.name, flow, why, test.want, test.why)
		}
	}
}

func TestLook(t *testing.T) {
	tests := []struct {
		name  string
		goos  string
		env   map[string]string
		files string
		want  Surroundings
	}{
		{"bare", "linux", nil, "", Surroundings{}},
		{"x11", "linux", map[string]string{"DISPLAY": ":0"}, "", Surroundings{Display: true}},
		{"wayland", "freebsd", map[string]string{"WAYLAND_DISPLAY": "wayland-0"}, "", Surroundings{Display: true}},
		{"mac", "darwin", nil, "", Surroundings{Display: true}},
		{"mac by ssh", "darwin", map[string]string{"SSH_TTY": "/dev/ttys0"}, "", Surroundings{Display: true, SSH: true}},
		{"windows", "windows", nil, "", Surroundings{Display: true}},
		{"wsl", "linux", map[string]string{"WSL_DISTRO_NAME": "Debian"}, "", Surroundings{Display: true}},
		{"ssh", "linux", map[string]string{"SSH_CONNECTION": "a 1 b 2"}, "", Surroundings{SSH: true}},
		{"browser", "linux", map[string]string{"BROWSER": "firefox"}, "", Surroundings{BrowserSet: true}},
		{"text browser", "linux", map[string]string{"BROWSER": "/usr/bin/w3m %s"}, "", Surroundings{}},
		{"docker", "linux", nil, "/.dockerenv", Surroundings{Container: true}},
		{"podman", "linux", nil, "/run/.containerenv", Surroundings{Container: true}},
		{"nspawn", "linux", map[string]string{"container": "systemd-nspawn"}, "", Surroundings{Container: true}},
		{"kubernetes", "linux", map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "", Surroundings{Container: true}},
	}
	for _, test := range tests {
		desk := desktop(test.env)
		desk.GOOS = test.goos
		desk.Stat = func(name string) (fs.FileInfo, error) {
			if name == test.files {
				return nil, nil
			}
			return nil, fs.ErrNotExist
		}
		if got := Look(desk); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}
