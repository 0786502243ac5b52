// TLS client of the matrix: rows of connections on stdin; the format is in `tests/src/tls/clients.rs`.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

var (
	directory = os.Args[1]
	trusted   = x509.NewCertPool()
	keys      io.Writer
	groups    = map[string]*tls.Config{}
)

func configuration(group, certificate string) (*tls.Config, error) {
	if config := groups[group]; config != nil {
		return config, nil
	}
	config := &tls.Config{
		RootCAs: trusted, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(4), KeyLogWriter: keys,
	}
	if certificate != "-" {
		file := filepath.Join(directory, certificate)
		pair, err := tls.LoadX509KeyPair(file+".pem", file+".key")
		if err != nil {
			return nil, err
		}
		// Whatever authorities the server names.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	groups[group] = config
	return config, nil
}

func connect(group, port, certificate string) (local int, status int, resumed string, line string, err error) {
	config, err := configuration(group, certificate)
	if err != nil {
		return
	}
	plain, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return
	}
	defer plain.Close()
	local = plain.LocalAddr().(*net.TCPAddr).Port
	connection := tls.Client(plain, config)
	if err = connection.Handshake(); err != nil {
		return
	}
	defer connection.Close()
	if _, err = io.WriteString(connection, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		return
	}
	body, err := io.ReadAll(response.Body)
	resumed = map[bool]string{true: "yes", false: "no"}[connection.ConnectionState().DidResume]
	return local, response.StatusCode, resumed, strings.TrimSpace(string(body)), err
}

func main() {
	authority, err := os.ReadFile(filepath.Join(directory, "authority.pem"))
	if err != nil {
		log.Fatal(err)
	}
	trusted.AppendCertsFromPEM(authority)
	if file := os.Getenv("SSLKEYLOGFILE"); file != "" {
		if keys, err = os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		row := strings.Split(lines.Text(), "\t")
		local, status, resumed, line, err := connect(row[1], row[2], row[3])
		if err != nil {
			fmt.Printf("%s\t%d\terror\t%s\n", row[0], local, strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		fmt.Printf("%s\t%d\t%d\t%s\t%s\n", row[0], local, status, resumed, line)
	}
}
