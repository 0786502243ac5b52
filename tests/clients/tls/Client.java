// TLS client of the matrix: rows of connections on stdin; the format is in `tests/src/tls/clients.rs`.
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.Principal;
import java.security.PrivateKey;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import javax.net.ssl.KeyManager;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509ExtendedKeyManager;
import javax.net.ssl.X509ExtendedTrustManager;

public class Client {
    static Path directory;
    static int port;
    static String local = "0";
    static final Map<String, SSLContext> CONTEXTS = new HashMap<>();

    /** HttpClient does not tell which port it connects from. While the handshake goes on the kernel does. */
    static String localPort() throws IOException {
        Set<String> own = new HashSet<>();
        try (Stream<Path> files = Files.list(Path.of("/proc/self/fd"))) {
            for (Path file : (Iterable<Path>) files::iterator) {
                try {
                    own.add(Files.readSymbolicLink(file).toString());
                } catch (IOException gone) {
                    // The descriptor the folder is listed with.
                }
            }
        }
        for (String line : Files.readAllLines(Path.of("/proc/self/net/tcp"))) {
            String[] fields = line.trim().split("\\s+");
            // Not one that the server closed and that is still here: state 01 is ESTABLISHED.
            boolean open = fields[3].equals("01") && fields[2].endsWith(String.format(":%04X", port));
            if (open && own.contains("socket:[" + fields[9] + "]")) return String.valueOf(Integer.parseInt(fields[1].split(":")[1], 16));
        }
        return "0";
    }

    /** Gives its certificate whatever authorities the server names. */
    static class Keys extends X509ExtendedKeyManager {
        final X509Certificate[] chain;
        final PrivateKey key;

        Keys(String name) throws Exception {
            try (InputStream file = Files.newInputStream(directory.resolve(name + ".pem"))) {
                chain = CertificateFactory.getInstance("X.509").generateCertificates(file).toArray(new X509Certificate[0]);
            }
            String text = Files.readString(directory.resolve(name + ".key")).replaceAll("-----[^-]*-----|\\s", "");
            PKCS8EncodedKeySpec spec = new PKCS8EncodedKeySpec(Base64.getDecoder().decode(text));
            key = KeyFactory.getInstance(chain[0].getPublicKey().getAlgorithm()).generatePrivate(spec);
        }

        public String chooseEngineClientAlias(String[] types, Principal[] issuers, SSLEngine engine) {
            return List.of(types).contains(key.getAlgorithm()) ? "client" : null;
        }

        public String chooseClientAlias(String[] types, Principal[] issuers, Socket socket) {
            return null;
        }

        public String chooseServerAlias(String type, Principal[] issuers, Socket socket) {
            return null;
        }

        public String[] getClientAliases(String type, Principal[] issuers) {
            return new String[] {"client"};
        }

        public String[] getServerAliases(String type, Principal[] issuers) {
            return null;
        }

        public X509Certificate[] getCertificateChain(String alias) {
            return chain;
        }

        public PrivateKey getPrivateKey(String alias) {
            return key;
        }
    }

    /** Trusts what `inner` trusts, and looks at the connection meanwhile. */
    static class Trust extends X509ExtendedTrustManager {
        final X509ExtendedTrustManager inner;

        Trust() throws Exception {
            KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
            store.load(null);
            try (InputStream file = Files.newInputStream(directory.resolve("authority.pem"))) {
                store.setCertificateEntry("authority", CertificateFactory.getInstance("X.509").generateCertificate(file));
            }
            TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
            factory.init(store);
            inner = (X509ExtendedTrustManager) factory.getTrustManagers()[0];
        }

        public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) throws CertificateException {
            try {
                local = localPort();
            } catch (IOException error) {
                throw new CertificateException(error);
            }
            inner.checkServerTrusted(chain, type, engine);
        }

        public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket) throws CertificateException {
            inner.checkServerTrusted(chain, type, socket);
        }

        public void checkServerTrusted(X509Certificate[] chain, String type) throws CertificateException {
            inner.checkServerTrusted(chain, type);
        }

        public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) throws CertificateException {
            throw new CertificateException("no server");
        }

        public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket) throws CertificateException {
            throw new CertificateException("no server");
        }

        public void checkClientTrusted(X509Certificate[] chain, String type) throws CertificateException {
            throw new CertificateException("no server");
        }

        public X509Certificate[] getAcceptedIssuers() {
            return inner.getAcceptedIssuers();
        }
    }

    static SSLContext context(String group, String certificate) throws Exception {
        SSLContext context = CONTEXTS.get(group);
        if (context == null) {
            context = SSLContext.getInstance("TLS");
            KeyManager[] keys = certificate.equals("-") ? null : new KeyManager[] {new Keys(certificate)};
            context.init(keys, new TrustManager[] {new Trust()}, null);
            CONTEXTS.put(group, context);
        }
        return context;
    }

    static String connect(String group, String certificate) {
        try {
            local = "0";
            HttpClient client =
                    HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).sslContext(context(group, certificate)).build();
            // Not GET, which it repeats on a new connection when the server closes without an answer.
            HttpRequest request = HttpRequest.newBuilder(URI.create("https://localhost:" + port + "/"))
                    .POST(HttpRequest.BodyPublishers.noBody())
                    .build();
            HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
            String line = response.body().lines().filter(text -> text.contains("\t")).findFirst().orElseThrow();
            // In a resumed session no certificate is looked at.
            if (local.equals("0")) local = line.split("\t")[0];
            return String.join("\t", local, String.valueOf(response.statusCode()), "-", line);
        } catch (Exception error) {
            return String.join("\t", local, "error", String.valueOf(error).replaceAll("\\s+", " "));
        }
    }

    public static void main(String[] arguments) throws Exception {
        directory = Path.of(arguments[0]);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        System.out.println("ready");
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] row = line.split("\t");
            port = Integer.parseInt(row[2]);
            System.out.println(row[0] + "\t" + connect(row[1], row[3]));
        }
        System.exit(0);
    }
}
