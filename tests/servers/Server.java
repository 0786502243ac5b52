// HTTP server of the oracle: `java Server.java ADDRESS...` listens on an ephemeral port of each and prints the ports on one line.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.StringJoiner;
import java.util.concurrent.Executors;

public class Server {
    static final List<String> PROOFS = List.of("Authorization", "X-Api-Key", "Cookie", "X-Internal-Auth", "Signature");
    static final Map<String, Integer> STATUS =
            Map.of("open", 200, "forbidden", 403, "missing", 404, "error", 500, "cors", 200, "redirect", 302);

    static void send(HttpExchange exchange, int status, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        boolean bare = status == 204 || status == 304 || body.length == 0;
        if (exchange.getRequestMethod().equals("HEAD")) {
            if (!bare) exchange.getResponseHeaders().set("Content-Length", String.valueOf(body.length));
            bare = true;
        }
        exchange.sendResponseHeaders(status, bare ? -1 : body.length);
        if (!bare) exchange.getResponseBody().write(body);
    }

    static void answer(HttpExchange exchange) throws IOException {
        String[] parts = exchange.getRequestURI().getPath().split("/");
        String route = parts.length > 1 ? parts[1] : "";
        long length = exchange.getRequestBody().readAllBytes().length;
        switch (route) {
            case "guarded":
                if (PROOFS.stream().anyMatch(name -> exchange.getRequestHeaders().containsKey(name))) {
                    send(exchange, 200, "welcome\n");
                } else {
                    exchange.getResponseHeaders().set("WWW-Authenticate", "Bearer");
                    send(exchange, 401, "who are you?\n");
                }
                break;
            case "big":
                send(exchange, 200, "x".repeat(Integer.parseInt(parts[2])));
                break;
            case "chunked":
                exchange.sendResponseHeaders(200, exchange.getRequestMethod().equals("HEAD") ? -1 : 0);
                if (!exchange.getRequestMethod().equals("HEAD")) {
                    OutputStream out = exchange.getResponseBody();
                    for (int size : new int[] {1, 300, 5000}) {
                        out.write("y".repeat(size).getBytes(StandardCharsets.UTF_8));
                        out.flush();
                    }
                }
                break;
            case "close":
                exchange.getResponseHeaders().set("Connection", "close");
                send(exchange, 200, "the end\n");
                break;
            case "empty":
                send(exchange, 204, "");
                break;
            case "unchanged":
                send(exchange, 304, "");
                break;
            case "echo":
                send(exchange, 200, length + "\n");
                break;
            default:
                if (route.equals("cors")) exchange.getResponseHeaders().set("Access-Control-Allow-Origin", "*");
                if (route.equals("redirect")) exchange.getResponseHeaders().set("Location", "/open/redirected");
                send(exchange, STATUS.getOrDefault(route, 404), route + "\n");
        }
        exchange.close();
    }

    public static void main(String[] addresses) throws Exception {
        // Without this the server waits for delayed acknowledgements, 40 ms per answer.
        System.setProperty("sun.net.httpserver.nodelay", "true");
        System.setProperty("sun.net.httpserver.idleInterval", "120");
        StringJoiner ports = new StringJoiner(" ");
        for (String address : addresses) {
            HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getByName(address), 0), 128);
            server.createContext("/", Server::answer);
            server.setExecutor(Executors.newCachedThreadPool());
            server.start();
            ports.add(String.valueOf(server.getAddress().getPort()));
        }
        System.out.println(ports);
        System.in.readAllBytes();
        System.exit(0);
    }
}
