// Asks for HTTP/2 by Upgrade, as java.net.http.HttpClient does in clear: `Upgrade URL COUNT` makes so many calls, up to a hundred at a
// time, the first alone. Each has a path of its own and a bearer token.
import java.net.URI;
import java.net.http.*;
import java.util.ArrayList;
import java.util.concurrent.CompletableFuture;

public class Upgrade {
    static final int CONCURRENT = 100;

    static HttpRequest request(String url, int number) {
        return HttpRequest.newBuilder(URI.create(url + "/" + number)).header("Authorization", "Bearer secret").build();
    }

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        int count = Integer.parseInt(arguments[1]);
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_2).build();
        client.send(request(url, 0), HttpResponse.BodyHandlers.discarding());
        for (int number = 1; number < count; number += CONCURRENT) {
            var under = new ArrayList<CompletableFuture<?>>();
            for (int at = number; at < Math.min(number + CONCURRENT, count); at++) {
                under.add(client.sendAsync(request(url, at), HttpResponse.BodyHandlers.discarding()));
            }
            for (var each : under) each.get();
        }
        System.exit(0);
    }
}
