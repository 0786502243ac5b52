// HTTP client of the oracle: rows of calls on stdin, `run` performs them; the format is in `tests/src/clients.rs`.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

type row struct {
	id, group, base, mode, method, target string
	body                                  int
	headers                               []string
}

var clients sync.Map

func client(group string) *http.Client {
	fresh := &http.Client{
		// Not Client.Timeout: with it the body of a 101 can no longer be written to.
		Transport: &http.Transport{
			MaxConnsPerHost: 1, ExpectContinueTimeout: time.Minute, ResponseHeaderTimeout: 20 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	found, _ := clients.LoadOrStore(group, fresh)
	return found.(*http.Client)
}

func call(r row) (int, error) {
	var body io.Reader
	if r.mode == "chunked" {
		// A reader of unknown length makes net/http chunk.
		body = io.MultiReader(bytes.NewReader(make([]byte, r.body)))
	} else if r.body > 0 {
		body = bytes.NewReader(make([]byte, r.body))
	}
	request, err := http.NewRequest(r.method, r.base+r.target, body)
	if err != nil {
		return 0, err
	}
	for _, header := range r.headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	switch r.mode {
	case "expect":
		request.Header.Set("Expect", "100-continue")
	case "upgrade":
		request.Header.Set("Connection", "Upgrade")
		request.Header.Set("Upgrade", "oracle")
	}
	response, err := client(r.group).Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if stream, switched := response.Body.(io.ReadWriteCloser); switched && response.StatusCode == 101 {
		io.WriteString(stream, "not http any more\r\n\r\n")
		_, err = io.ReadFull(stream, make([]byte, 4))
		return response.StatusCode, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

func main() {
	var lock sync.Mutex
	say := func(words ...any) {
		lock.Lock()
		defer lock.Unlock()
		for i, word := range words {
			if i > 0 {
				fmt.Print("\t")
			}
			fmt.Print(word)
		}
		fmt.Println()
	}
	groups := map[string][]row{}
	say("ready")
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		words := strings.Split(lines.Text(), "\t")
		if words[0] == "run" {
			var wait sync.WaitGroup
			for _, rows := range groups {
				wait.Add(1)
				go func() {
					defer wait.Done()
					for _, r := range rows {
						if status, err := call(r); err != nil {
							say(r.id, "error", err)
						} else {
							say(r.id, status)
						}
					}
				}()
			}
			wait.Wait()
			groups = map[string][]row{}
			say("done")
			continue
		}
		body, _ := strconv.Atoi(words[7])
		r := row{words[0], words[1], "http://" + net.JoinHostPort(words[2], words[3]), words[4], words[5], words[6], body, words[8:]}
		groups[r.group] = append(groups[r.group], r)
	}
}
